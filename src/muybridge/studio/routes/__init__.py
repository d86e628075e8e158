"""Routes of the studio's HTTP interface, a module for each subject."""
