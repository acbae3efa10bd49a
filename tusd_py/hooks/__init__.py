"""Hooks: programs that are asked or told when something happens to an upload. Their authors import `contract` only."""
