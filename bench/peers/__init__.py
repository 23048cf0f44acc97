"""Programs that run in the peers' own environments; none of them imports kappawatt."""
