module finermoe.example

go 1.18
