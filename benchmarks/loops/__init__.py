"""The bus and its peers in event loops: streams of events, requests and their answers, and many who listen at once."""
