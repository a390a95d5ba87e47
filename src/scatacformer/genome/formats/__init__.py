"""One reader for each file format of genome annotation: BED, GTF, HOMER, chain, bigBed and bigWig."""
