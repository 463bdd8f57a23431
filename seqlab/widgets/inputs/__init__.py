"""Controls that other views are made of: pickers, selections, a lasso, clickable tables."""
