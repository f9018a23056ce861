"""The commands of `nas`, a file each, with what they share: options, and set-up of a search."""
