"""What is observed of a tensor while a model runs over data, as streams.

A stream takes arrays (``update``), takes in what another one saw (``merge``), and goes into a file
and comes back (``state``, ``from_state``). Its size does not grow with the data. ``Histogram`` and
``ChannelStatistics`` depend only on the multiset of the values: batches of any size, in any order,
spread over any number of streams, end in the same state, bit for bit. ``SecondMoment`` adds floats
and depends on all that by their rounding.
"""
