module greenprof/benches

go 1.22
