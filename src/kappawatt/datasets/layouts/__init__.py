"""Publishers' layouts, a module each: what their columns mean. `STREAMS` name those of each stream."""
