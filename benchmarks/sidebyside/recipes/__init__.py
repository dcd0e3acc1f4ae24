"""What a user of each peer would write, by its documentation.

A recipe is a module that only its peer's environment can import. ``optimize(job)`` writes what it
makes of ``job.model`` into ``job.directory``; where that is not a file or not all, it returns the
bytes. ``prepare(job)``, where there is one, comes before and is not timed. ``load(job)`` returns a
function of inputs by name to a list of outputs. Its docstring ends with the address of the page
that it follows.
"""
