"""How good a clustering is, as numbers with baselines.

    purity        how far each cluster is of one class: tokens, image classes, any labels of rows
    baselines     the same for shuffled classes and for random clusters of the same sizes, with intervals
    intruders     a blind test for a reader: which one of these does not belong?
    agreement     two clusterings beside each other; clusters that come again
    line          the best intervals of numbers on a line
    projections   clusters of a direction's values beside clusters of codes

Labels are integers, -1 for noise; nothing here knows where they come from.
"""
