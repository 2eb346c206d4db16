"""Draws docs/architecture.png: python docs/make_architecture.py"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOMS = {
    "cli · commands · doctor · recipe · task": (6.0, 5.8, 4.4, "#e8e8e8"),
    "train": (1.0, 4.4, 1.5, "#d7e8f7"),
    "export · interop": (3.2, 4.4, 1.7, "#f7e3d0"),
    "models": (5.3, 4.4, 1.5, "#dff0d8"),
    "viz": (7.1, 4.4, 1.2, "#e6dcf2"),
    "datasets": (8.9, 4.4, 1.5, "#dff0d8"),
    "measure": (1.0, 3.3, 1.5, "#d7e8f7"),
    "events": (8.9, 3.3, 1.5, "#dff0d8"),
    "learning · continual · detect · language": (6.3, 3.35, 3.3, "#d7e8f7"),
    "folding": (3.3, 3.35, 1.4, "#f7e3d0"),
    "neurons · norm · Sequential": (3.8, 2.3, 3.2, "#fff3c4"),
    "state": (1.6, 1.2, 1.5, "#fff3c4"),
    "ops: lif · li · astrocyte · mpbn · recurrent · linear · conv": (5.3, 1.2, 5.2, "#fff3c4"),
    "native": (7.2, 0.2, 1.3, "#fff3c4"),
    "surrogate": (4.8, 0.2, 1.8, "#fff3c4"),
    "Lava worker\n(own interpreter)": (1.3, 5.8, 2.0, "#ffffff"),
}
IMPORTS = [
    ("cli · commands · doctor · recipe · task", "train"),
    ("cli · commands · doctor · recipe · task", "export · interop"),
    ("cli · commands · doctor · recipe · task", "viz"),
    ("train", "measure"),
    ("measure", "neurons · norm · Sequential"),
    ("export · interop", "folding"),
    ("folding", "neurons · norm · Sequential"),
    ("models", "neurons · norm · Sequential"),
    ("learning · continual · detect · language", "neurons · norm · Sequential"),
    ("cli · commands · doctor · recipe · task", "models"),
    ("cli · commands · doctor · recipe · task", "datasets"),
    ("datasets", "events"),
    ("neurons · norm · Sequential", "state"),
    ("ops: lif · li · astrocyte · mpbn · recurrent · linear · conv", "native"),
    ("neurons · norm · Sequential", "ops: lif · li · astrocyte · mpbn · recurrent · linear · conv"),
    ("ops: lif · li · astrocyte · mpbn · recurrent · linear · conv", "surrogate"),
]

figure = Figure(figsize=(9, 6.2), layout="constrained")
ax = figure.subplots()
for name, (x, y, width, colour) in ROOMS.items():
    style = "--" if "worker" in name else "-"
    box = FancyBboxPatch((x - width / 2, y - 0.28), width, 0.56, "round,pad=0.06", fc=colour, ec="#444", ls=style)
    ax.add_patch(box)
    ax.text(x, y, name, ha="center", va="center", fontsize=10)
for upper, lower in IMPORTS:
    (x0, y0, *_), (x1, y1, *_) = ROOMS[upper], ROOMS[lower]
    ax.annotate("", (x1, y1 + 0.36), (x0, y0 - 0.36), arrowprops={"arrowstyle": "->", "color": "#666"})
ax.annotate("", (1.7, 5.44), (2.8, 4.76), arrowprops={"arrowstyle": "<->", "color": "#666", "linestyle": "--"})
ax.text(2.35, 5.15, "jobs as files", fontsize=8, color="#666")
ax.set(xlim=(0, 10), ylim=(-0.3, 6.3))
ax.axis("off")
figure.savefig(Path(__file__).with_name("architecture.png"), dpi=110)
