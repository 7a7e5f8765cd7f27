"""What lets eventbus stand in for a part of another library: a room each, which imports that library and the public
face only."""
