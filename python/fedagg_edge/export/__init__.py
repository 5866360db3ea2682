"""The compiler: a torch module in, a training file for a stock TFLite runtime out. torch is imported here."""
