module finermoe.example/finermoe/examples

go 1.24

require (
	finermoe.example/finermoe v0.0.0
	github.com/schollz/progressbar/v3 v3.18.0
)

require (
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	golang.org/x/sys v0.29.0 // indirect
	golang.org/x/term v0.28.0 // indirect
)

replace finermoe.example/finermoe => ../
