"""Detection: boxes, the loss and the decoding of a detector, anchors, and how good its boxes are."""

from spikekit.detect.anchors import fit_anchors, recall
from spikekit.detect.boxes import check_boxes, ciou, clip_boxes, iou, pad_boxes, unpad_boxes
from spikekit.detect.chip import ChipDetector
from spikekit.detect.decode import detect, suppress
from spikekit.detect.grid import Grid
from spikekit.detect.loss import DetectionLoss
from spikekit.detect.precision import Precision, average_precision
from spikekit.detect.stream import Stream

__all__ = [
    "ChipDetector",
    "DetectionLoss",
    "Grid",
    "Precision",
    "Stream",
    "average_precision",
    "check_boxes",
    "ciou",
    "clip_boxes",
    "detect",
    "fit_anchors",
    "iou",
    "pad_boxes",
    "recall",
    "suppress",
    "unpad_boxes",
]
