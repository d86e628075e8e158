"""Video file to frames, clips and views: containers, decoding, clip sampling, crops, optical flow."""
