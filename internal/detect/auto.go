package detect

import "time"

func autoParameters() []Parameter { return []Parameter{windowParameter(240)} }

func autoMinHistory(time.Duration) int { return windowLeast(240) }

// newAuto makes the model "auto".
func newAuto(c config) (Model, error) { return newRobust(c) }
