import {
  Activity,
  ChevronsUpDown,
  LayoutDashboard,
  LogOut,
  Menu as MenuIcon,
  Moon,
  Search,
  Sun,
  SunMoon,
} from "lucide-react";
import { useEffect, useState } from "react";
import { NavLink, Outlet, useLocation, useSearchParams } from "react-router";
import { hasToken, setToken } from "@/api/client";
import { useConnection } from "@/api/live";
import { Kbd } from "@/components/basics";
import { Logo } from "@/components/Logo";
import { Menu, MenuChoice } from "@/components/Menu";
import { Banner } from "@/components/states";
import { later, WhenOpened } from "@/lib/later";
import { useNamespace, withNamespace } from "@/lib/namespace";
import { formatRelative, useNow } from "@/lib/time";
import { features } from "./features";
import styles from "./Shell.module.css";
import { useSession } from "./session";
import { setTheme, type Theme, useTheme } from "./theme";

const CommandPalette = later(async () => (await import("./CommandPalette")).CommandPalette);
const Drawer = later(async () => (await import("./Drawer")).Drawer);

export const NAVIGATION = [
  { label: "Overview", path: "/", icon: LayoutDashboard },
  { label: "Runs", path: "/runs", icon: Activity },
  ...features.map(({ label, path, icon }) => ({ label, path, icon })),
];

/** What surrounds every page: navigation, namespace, search, theme, and whether what is shown is live. */
export function Shell() {
  const [palette, setPalette] = useState(false);
  const [drawer, setDrawer] = useState(false);
  const { pathname } = useLocation();
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setPalette((open) => !open);
      }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new page closes the drawer
  useEffect(() => setDrawer(false), [pathname]);
  const side = <Side onSearch={() => setPalette(true)} />;
  return (
    <div className={styles.shell}>
      <a className={styles.skip} href="#main">
        Skip to the content
      </a>
      <aside className={styles.side}>{side}</aside>
      <div className={styles.top}>
        <button type="button" className="btn ghost icon" aria-label="Navigation" onClick={() => setDrawer(true)}>
          <MenuIcon size={16} aria-hidden />
        </button>
        <Logo size={20} />
        <strong className="grow">Levada</strong>
        <button type="button" className="btn ghost icon" aria-label="Search" onClick={() => setPalette(true)}>
          <Search size={16} aria-hidden />
        </button>
      </div>
      <WhenOpened open={drawer}>
        <Drawer open={drawer} onOpenChange={setDrawer}>
          {side}
        </Drawer>
      </WhenOpened>
      <main id="main" className={styles.main} tabIndex={-1}>
        <ConnectionBanner />
        <Outlet />
      </main>
      <WhenOpened open={palette}>
        <CommandPalette open={palette} onOpenChange={setPalette} />
      </WhenOpened>
    </div>
  );
}

function Side({ onSearch }: { onSearch: () => void }) {
  const session = useSession();
  const [params] = useSearchParams();
  return (
    <div className={styles.inner}>
      <div className={styles.brand}>
        <Logo />
        <div className="grow">
          <strong>Levada</strong>
          <div className="muted truncate" title={session.cluster}>
            {session.cluster || "cluster"}
          </div>
        </div>
      </div>
      <NamespaceSwitch />
      <button type="button" className={styles.search} onClick={onSearch}>
        <Search size={14} aria-hidden />
        <span className="grow">Search</span>
        <Kbd>Ctrl K</Kbd>
      </button>
      <nav aria-label="Pages" className={styles.nav}>
        {NAVIGATION.map(({ label, path, icon: Icon }) => (
          <NavLink
            key={path}
            to={withNamespace(path, params)}
            end={path === "/"}
            className={({ isActive }) => `${styles.link} ${isActive ? styles.here : ""}`}
          >
            <Icon size={15} aria-hidden />
            {label}
          </NavLink>
        ))}
      </nav>
      <span className="grow" />
      <ConnectionLine />
      <div className={styles.foot}>
        <span className="grow truncate muted" title={`${session.user} · ${(session.groups ?? []).join(", ")}`}>
          {session.user || "anonymous"}
          {session.readOnly && " · read-only"}
        </span>
        {hasToken() && (
          <button
            type="button"
            className="btn ghost icon small"
            aria-label="Sign out"
            title="Sign out"
            onClick={() => {
              setToken("");
              location.reload();
            }}
          >
            <LogOut size={14} aria-hidden />
          </button>
        )}
        <ThemeSwitch />
      </div>
    </div>
  );
}

function NamespaceSwitch() {
  const { namespaces } = useSession();
  const [namespace, setNamespace] = useNamespace();
  const options = [["", "All namespaces"] as const, ...(namespaces ?? []).map((name) => [name, name] as const)];
  return (
    <Menu
      trigger={
        <button type="button" className={styles.namespace} aria-label={`Namespace: ${namespace || "All namespaces"}`}>
          <span className="grow truncate">{namespace || "All namespaces"}</span>
          <ChevronsUpDown size={14} aria-hidden />
        </button>
      }
    >
      <MenuChoice value={namespace} options={options} onChange={setNamespace} />
    </Menu>
  );
}

const THEMES = { system: SunMoon, light: Sun, dark: Moon } as const;

function ThemeSwitch() {
  const theme = useTheme();
  const Icon = THEMES[theme];
  return (
    <Menu
      align="end"
      trigger={
        <button type="button" className="btn ghost icon small" aria-label={`Theme: ${theme}`} title="Theme">
          <Icon size={14} aria-hidden />
        </button>
      }
    >
      <MenuChoice
        value={theme}
        options={[
          ["system", "As the system"],
          ["light", "Light"],
          ["dark", "Dark"],
        ]}
        onChange={(value) => setTheme(value as Theme)}
      />
    </Menu>
  );
}

const WORDS = { live: "Live", connecting: "Connecting…", stale: "Stale", down: "Disconnected" } as const;
const TONES = { live: "green", connecting: "grey", stale: "orange", down: "red" } as const;

function ConnectionLine() {
  const { state, message } = useConnection();
  return (
    <div className={`${styles.connection} tone-${TONES[state]}`} role="status" title={message}>
      <span className={styles.dot} />
      {WORDS[state]}
    </div>
  );
}

function ConnectionBanner() {
  const { state, message, since } = useConnection();
  const now = useNow();
  if (state === "stale") {
    return (
      <div className={styles.banner}>
        <Banner tone="orange" title="What is shown may be old">
          {message || "The dashboard's watch of the API server is broken. It mends by itself."}
        </Banner>
      </div>
    );
  }
  if (state !== "down" || now - since < 2000) return null;
  return (
    <div className={styles.banner}>
      <Banner tone="red" title={`Disconnected ${formatRelative(since, now)}: what is shown is from then`}>
        {message} The page tries again by itself.
      </Banner>
    </div>
  );
}
