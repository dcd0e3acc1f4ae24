"""Two models beside each other, layer by layer: where do they part ways?"""
