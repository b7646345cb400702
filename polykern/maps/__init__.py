"""Maps of a plane, made band by band into a folder, with their census, audit and provenance."""
