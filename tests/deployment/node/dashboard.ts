// The type of a dashboard file: Grafana's types, with the panels and Prometheus queries in use defined in detail.
// @grafana/schema does not define the options of a panel and the fields of a query, because plugins do.

import type { AnnotationQuery, Dashboard, DataQuery, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** A JSON file contains the values of enums, not their names. */
type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends Array<infer Item>
      ? Array<Plain<Item>>
      : T extends object
        ? { [Key in keyof T]: Plain<T[Key]> }
        : T;

interface PrometheusQuery extends Omit<DataQuery, 'datasource'> {
  datasource: { type: 'prometheus'; uid: '${datasource}' };
  editorMode: 'code' | 'builder';
  expr: string;
  format: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  legendFormat: string;
  range: boolean;
}

/** `useValueForTime`: the value of the series is the time of the event, in milliseconds. */
interface PrometheusAnnotation extends Omit<AnnotationQuery, 'target'> {
  expr: string;
  step: string;
  tagKeys: string;
  textFormat: string;
  titleFormat: string;
  useValueForTime: boolean;
}

type PanelOf<Type extends string, Options, Custom> = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Type;
  title: string;
  description: string;
  options: Partial<Options>;
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & {
    defaults: Omit<FieldConfigSource['defaults'], 'custom'> & { custom?: Partial<Custom> };
  };
  targets: PrometheusQuery[];
};

export type DashboardFile = Plain<
  Omit<Dashboard, 'panels' | 'annotations'> & {
    uid: string;
    title: string;
    description: string;
    annotations: { list: Array<PrometheusAnnotation | (AnnotationQuery & { builtIn: 1 })> };
    panels: Array<
      | RowPanel
      | PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>
      | PanelOf<'stat', stat.Options, never>
      | PanelOf<'table', table.Options, table.FieldConfig>
      | PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>
    >;
  }
>;
