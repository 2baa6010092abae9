"""The web pages of `mergewright serve`: read-only, server-rendered, from the archive alone; and the report, of the same parts.

    running.py     the server: its address, its port, its end
    app.py         addresses → pages;  api.py: the same facts as JSON, described by OpenAPI
    guard.py       who may ask, and what a browser may do with the answer
    runs.py        the runs that are shown, opened once
    parts.py       what one page shows, as plain values: no HTML, no decisions of layout
    charts.py      figures as SVG
    rendering.py   templates; the only place where text becomes HTML, all of it escaped

No program text is executed here, and none is rendered as anything but text.
"""
