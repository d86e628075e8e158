"""One video file to frames, clips and views: containers, decoding, sampling in time, crops, optical flow."""
