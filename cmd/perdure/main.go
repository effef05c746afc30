// Command perdure makes other programs' calls outlast failures: it runs a
// command until it succeeds, copies files through failures, and shows what a
// retry policy will do.
package main

import (
	"context"
	"os"
)

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	os.Exit(a.main(context.Background(), os.Args[1:]))
}
