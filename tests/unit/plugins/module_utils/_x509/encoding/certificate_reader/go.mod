module certflow.example/certificates

go 1.26
