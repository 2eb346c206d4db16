"""Detection: boxes, the loss and the decoding of a detector, anchors, and how good its boxes are."""
