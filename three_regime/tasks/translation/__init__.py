"""Translation: WMT14 German→English by fairseq's Transformer.

Belongs here: what only text needs: batches of sentences, label-smoothed loss, dropout, beam search, BLEU. Start at
`task`.
"""
