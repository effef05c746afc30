package main

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// speak is a child that reports to Dagster: "speak CODES FILE" writes the file to the
// messages unchanged, and exits with the attempt's code of the comma-separated CODES.
// Attempt N writes FILE.N instead, if that file exists.
func speak() {
	attempt := max(os.Getenv("PERDURE_ATTEMPT"), "1")
	text, err := os.ReadFile(os.Args[2] + "." + attempt)
	if errors.Is(err, os.ErrNotExist) {
		text, err = os.ReadFile(os.Args[2])
	}
	codes := strings.Split(os.Args[1], ",")
	n, failed := strconv.Atoi(attempt)
	if err = errors.Join(err, failed, send(text)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	code, _ := strconv.Atoi(codes[min(n, len(codes))-1])
	os.Exit(code)
}

// send writes text to the messages file.
func send(text []byte) error {
	packed, err := base64.StdEncoding.DecodeString(os.Getenv("DAGSTER_PIPES_MESSAGES"))
	if err != nil {
		return err
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	var to struct{ Path string }
	if err := json.NewDecoder(z).Decode(&to); err != nil {
		return err
	}
	f, err := os.OpenFile(to.Path, os.O_WRONLY|os.O_APPEND, 0) // it is there already
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
