"""How good a model is: rolling backtest, scores of files, reports. May train and ask models; may not serve them, nor
change what is served.
"""
