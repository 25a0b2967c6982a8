module greenprof/gohttp

go 1.27
