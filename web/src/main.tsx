import { render } from "preact";
import "@xterm/xterm/css/xterm.css";
import "uplot/dist/uPlot.min.css";
import { App } from "./app.tsx";
import "./style.css";

const place = document.getElementById("app");
if (place !== null) render(<App />, place);
