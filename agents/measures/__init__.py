"""What an episode earned, summed and averaged: tallies, interquartile means, bootstrap
intervals."""
