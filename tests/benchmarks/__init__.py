"""Speed and memory of heteromics beside its peers; `make bench NAME=links` runs one, `make bench` all of them."""
