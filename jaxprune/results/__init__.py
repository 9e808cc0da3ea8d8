"""What is measured and how it is stored: rows of every version, outputs per image, images, `study.json`."""
