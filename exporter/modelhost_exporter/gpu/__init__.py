"""What the GPU collector needs: the cards of each vendor, and the door to the driver's library."""
