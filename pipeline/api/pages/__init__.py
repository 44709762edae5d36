"""The web pages, under /ui: NiceGUI on the REST application. Each module is one page; `shell` is around all of them."""
