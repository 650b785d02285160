"""The interactive viewer: a controller without a window (`session`), and two thin front ends over it.

`camera`, `document`, `scheduler`, `picker`, `path` and `display` are plain Python over NumPy; `web` needs viser,
`window` needs Open3D, and both are imported only when they are opened.
"""
