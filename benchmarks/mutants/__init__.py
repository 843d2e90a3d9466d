"""How strong the tests are: ``python -m benchmarks.mutants`` changes the core, one small change at a time.

A *mutant* is the library with one operator, constant, branch, argument or statement changed. It is *killed* when a test
fails, and has *survived* when every test that executes the changed line passes. `mutation` makes mutants, `reach` says
which tests execute a line, `session` tries mutants in a copy of the project, `report` tells what came of it.
"""
