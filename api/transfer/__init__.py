"""`longleaf export` and `import`: documents in a form that other programs read, too."""
