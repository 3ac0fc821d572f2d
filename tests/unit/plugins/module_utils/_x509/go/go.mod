module certflow.example/verdict

go 1.26
