//go:build tools

// Package tools pins the Go programs that devstack builds.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
