"""The interactive viewer: a controller without a window (`session`), and two front ends that draw the same tables.

Plain Python over NumPy: `session` (scene, camera, scheduler), `opening` and `saving` (its files), `panel` (the choices
of a person), `controls` and `actions` (the tables of controls, and of menus and keys), `dialogs`, `pointer`, `camera`,
`document` (with `placement`, `surroundings`, `lights`), `picker`, `preview`, `display`, `uploads`, `recovery` (unsaved
work on disk), `delivery`. Of split pictures: `relighting`, `relight_panel`, `relight_window`, `relight_page`. The front
ends: `window`, `window_dialogs` and `widgets` need Open3D, `web`, `inline` and `server` need viser; they are imported
when they are opened. `launch` opens one.
"""
