"""Weather from where it is published to the stream of load: a settings file of stations, Open-Meteo's JSON and DWD
MOSMIX's KMZ, asked politely and remembered on disk, as rows that say when they were known. One loop, run by the
ingestor or by `kappawatt weather`. May ask other servers; may not answer, and knows no model.
"""
