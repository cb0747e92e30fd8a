// Command troupe is the Troupe node and its command line client.
package main

import (
	"os"

	"github.com/troupelog/troupe/node/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, cli.Deps{}))
}
