"""The page that an engineer keeps open: a study, or several, as one HTML file."""
