"""Files, locks, devices, memory and signals.

Belongs here: code useful to any long-running scientific program. Not here: anything specific to networks, studies or
data sets. Most used by other packages: `files` (write to a temporary name, then rename; read with checks),
`sparse_encoding` (storage of pruned weights), `places` (folders named by the user), `interruption`, `device`.
"""
