"""What was compared, on which inputs, with which result; never implied."""
