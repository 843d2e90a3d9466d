"""Translation: WMT14 German→English with fairseq's Transformer.

Belongs here: everything specific to text: batches of sentences, label-smoothed loss, dropout, beam search, BLEU. Start
at `task`.
"""
