package bulk

func childHandler() Handler { return &leader{} }
