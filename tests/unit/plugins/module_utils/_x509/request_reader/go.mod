module certflow.invalid/request_reader

go 1.13
