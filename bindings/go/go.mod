module finermoe.example/finermoe

go 1.24
