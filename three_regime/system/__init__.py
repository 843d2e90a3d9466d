"""Files, locks, devices, memory and signals: what the project needs from the machine.

Belongs here: code that would serve any long-running scientific program. Not here: anything that knows networks,
studies or data sets. Used by others above all: `files` (write to a temporary name, then rename; read with a check),
`sparse_encoding` (how pruned weights are stored), `places` (folders that a user names), `interruption`, `device`.
"""
