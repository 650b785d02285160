"""The interactive viewer: a controller without a window (`session`), and two front ends that draw the same tables.

Plain Python over NumPy: `session` (scene, camera, scheduler, files), `panel` (what a person has chosen), `controls` and
`actions` (the tables of controls, and of menus and keys), `dialogs`, `pointer`, `camera`, `document`, `keyframes`,
`video`, `picker`, `preview`, `display`, `uploads`. Drawing: `window` and `widgets` need Open3D, `web` and `server` need
viser, and all four are imported only when they are opened. `launch` opens one of the two.
"""
