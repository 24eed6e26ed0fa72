"""Records in, tables out: curves, differences, and the statistics behind them."""
